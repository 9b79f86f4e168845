"""What training adds to a task's own loss, and to the layers of its backbone."""
