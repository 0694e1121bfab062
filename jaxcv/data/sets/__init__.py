"""Public sets by name, and formats that one set alone has."""
