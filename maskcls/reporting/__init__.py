"""What a person sees of a run: console lines and pictures. Nothing here decides anything."""
