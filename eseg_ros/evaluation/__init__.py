"""How good and how fast an engine is: metrics, evaluation on data sets, benchmark."""
