"""A call that faults did not happen: what is taken back, what stays, and who waits for whom."""
