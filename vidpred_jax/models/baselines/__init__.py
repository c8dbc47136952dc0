"""Networks of others, beside which ours are measured."""
