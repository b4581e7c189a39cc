"""maskcls: mask state, gender and age group from face photos. Importing it does nothing and is quick."""

__version__ = "0.1.0"
