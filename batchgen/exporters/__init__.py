"""Write the result table."""
