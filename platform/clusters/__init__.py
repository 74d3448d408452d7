"""Work on a cluster that is there already: packaging the project, submitting commands, following them."""
