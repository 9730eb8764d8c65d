"""What several tests share: exact arithmetic, networks, problems, the check of evidence."""
