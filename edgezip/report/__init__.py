"""Reports: plain data in; JSON documents, text tables and one offline HTML file out."""
