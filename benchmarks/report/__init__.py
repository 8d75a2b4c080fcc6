"""One page for people from the JSON of benchmarks: tables, plots, and how each number came about."""
