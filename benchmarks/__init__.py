"""For developers: Headrace beside its peers."""
