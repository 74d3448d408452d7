"""Ways out of the lake: samples as files and shards that other programs read."""
