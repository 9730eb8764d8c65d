"""The tightest planes, fitted by linear programs and proved."""
