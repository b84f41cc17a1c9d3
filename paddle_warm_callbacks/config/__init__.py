"""Configuration: YAML of typed sections to the callbacks, network and optimizer it asks for."""
