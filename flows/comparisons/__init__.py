"""Methods held against each other on the data and models of a finished lifecycle."""
