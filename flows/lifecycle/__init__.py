"""The lifecycle as a whole: its flow, `moteur run`, `moteur status`."""
