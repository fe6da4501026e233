"""The toon base for SDXL's classes, trained on the same pictures and captions as the Anima one."""
