"""The services that make clips."""
