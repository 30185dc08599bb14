"""Networks of a lab: plans of ip and tc commands, for hosts of whatever kind."""
