"""Looking inside, measuring and practising: everything that one does with a model besides generating images."""
