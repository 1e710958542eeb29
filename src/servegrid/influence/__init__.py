"""What an input buys: elasticities, tornadoes, Sobol indices; none of them compiles more than one kernel."""
