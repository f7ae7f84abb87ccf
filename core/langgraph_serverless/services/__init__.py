"""One use case per method. Services own the transaction; they know neither SQL nor HTTP."""
