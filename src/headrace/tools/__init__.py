"""What a tool call does."""
