"""What the search was worth: the winner trained again, scored once, with an error bar."""
