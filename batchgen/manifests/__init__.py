"""Read the user's manifest: formats, positions, templates, schema checks."""
