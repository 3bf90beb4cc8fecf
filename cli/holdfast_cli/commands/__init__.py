"""One module per noun or family of verbs. A module here may import what its commands need and nothing more."""
