"""The report: tables, charts, sentences, rendered as HTML and Markdown."""
