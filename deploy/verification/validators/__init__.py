"""The checks of `deploy/verification/validate`, one subject in each module. Each function takes the folder of a project and returns what it
saw, or raises `Refused`."""
