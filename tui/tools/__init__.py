"""Tools of MCP servers: their configuration, their calls, what a person allowed. Knows no widget."""
