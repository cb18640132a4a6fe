"""What a person writes: attachments, slash commands, snippets, personas. Knows no widget."""
