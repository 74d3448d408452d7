"""What runs on a cluster: shared machinery, then one folder per system."""
