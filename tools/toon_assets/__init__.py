"""The steps of tools/build_toon_assets.py, one file each; nothing here is imported by onmodel
itself."""
