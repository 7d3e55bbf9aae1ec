"""What people read of an evaluation: the printed table and report.html."""
