const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
];
const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];

const MS_PER_DAY = 86_400_000;

/** A date as C's strftime writes it in the C locale, so that a prompt does not depend on the server's language. */
export function formatDate(date: Date, format: string): string {
  const two = (n: number): string => String(n).padStart(2, '0');
  const month = MONTHS[date.getMonth()]!;
  const day = DAYS[date.getDay()]!;
  const yearDay =
    Math.round(
      (Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) - Date.UTC(date.getFullYear(), 0, 1)) / MS_PER_DAY,
    ) + 1;
  return format.replace(/%[%YymdeBbAaHIMSpjFTDR]/g, (code) => {
    switch (code[1]) {
      case 'Y':
        return String(date.getFullYear());
      case 'y':
        return two(date.getFullYear() % 100);
      case 'm':
        return two(date.getMonth() + 1);
      case 'd':
        return two(date.getDate());
      case 'e':
        return String(date.getDate()).padStart(2, ' ');
      case 'B':
        return month;
      case 'b':
        return month.slice(0, 3);
      case 'A':
        return day;
      case 'a':
        return day.slice(0, 3);
      case 'H':
        return two(date.getHours());
      case 'I':
        return two(date.getHours() % 12 || 12);
      case 'M':
        return two(date.getMinutes());
      case 'S':
        return two(date.getSeconds());
      case 'p':
        return date.getHours() < 12 ? 'AM' : 'PM';
      case 'j':
        return String(yearDay).padStart(3, '0');
      case 'F':
        return formatDate(date, '%Y-%m-%d');
      case 'T':
        return formatDate(date, '%H:%M:%S');
      case 'D':
        return formatDate(date, '%m/%d/%y');
      case 'R':
        return formatDate(date, '%H:%M');
      default:
        return '%';
    }
  });
}
