"""The wire dialects: what each reference document's clients send and expect, over one domain service."""
