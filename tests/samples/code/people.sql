-- People we know.
CREATE TABLE people (
  id integer, -- key
  name text
);
