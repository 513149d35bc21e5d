"""The services of one machine: which there are, who keeps them alive, and whom they alert."""
