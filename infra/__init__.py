"""What puts the parts together on a machine: the demo, and later installers and units."""
