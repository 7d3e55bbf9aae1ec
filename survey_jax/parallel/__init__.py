"""Devices and processes: the mesh, what lies where, and joining and ending processes together."""
