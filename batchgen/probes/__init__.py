"""Look at input files on the web before anything is paid: what they are, never all of them."""
