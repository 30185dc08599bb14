"""Networks of a lab: plans of ip and tc commands that run through any Host."""
