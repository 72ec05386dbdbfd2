"""What people look at: the built-in web console (static files under console/)."""
