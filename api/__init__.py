"""HTTP in, HTTP out: routes over the rules in fleet."""
