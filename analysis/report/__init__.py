"""Tables, sentences and the page; `write` joins everything."""
