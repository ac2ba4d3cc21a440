"""nano: a small LFM2-MoE trained from scratch, from generated dialogues to the GGUF that ships."""
