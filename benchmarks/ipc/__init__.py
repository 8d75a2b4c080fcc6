"""Parts of the benchmark of calls: extensions against inter-process communication."""
