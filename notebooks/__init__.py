"""Stories told by notebooks, and what runs them; see README.md."""
