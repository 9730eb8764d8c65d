"""What writes evidence down as a run goes on."""
