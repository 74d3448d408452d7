"""The main job: a lake of real data, a sweep over it, and what came out."""
