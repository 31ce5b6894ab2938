"""batchgen: run hundreds of paid video generations, lose none, pay for none twice."""

__version__ = "0.1.0"
