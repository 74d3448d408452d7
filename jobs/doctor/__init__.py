"""What this machine can and cannot do, and what is missing for which feature."""
