"""batchgen as a library: what `import batchgen` gives, and what programs share with commands."""
