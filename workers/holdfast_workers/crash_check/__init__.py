"""`holdfast tool check --crash`: one tool, its worker lost at each fault point, against the tool's own service."""
