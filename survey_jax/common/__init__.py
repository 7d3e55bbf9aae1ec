"""Errors that become one line, lines for people, and files written in one piece. Imports no other room."""
