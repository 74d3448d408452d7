"""MVMformer: risk from irregular clinical series, by multi-scale value-density attention and a medical graph."""
